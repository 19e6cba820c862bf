"""Metrics that scikit-learn lacks, and what is fitted on validation before they are read."""

from lossbench.metrics.calibration import expected_calibration_error, temperature
from lossbench.metrics.edits import edit_distances
from lossbench.metrics.generated import frechet_distance, kernel_distance, parzen_nll, precision_recall, spread
from lossbench.metrics.median import weighted_median
from lossbench.metrics.threshold import best_f1_threshold

__all__ = [
    "best_f1_threshold",
    "edit_distances",
    "expected_calibration_error",
    "frechet_distance",
    "kernel_distance",
    "parzen_nll",
    "precision_recall",
    "spread",
    "temperature",
    "weighted_median",
]
