"""Every loss and its gradient, drawn over what it sees: a page of its own, and the pages of the documentation."""
