"""Every loss and its gradient, drawn over its prediction: as one page, and as pages of the documentation."""
