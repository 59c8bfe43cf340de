"""How good scores are: baselines, patient-level bootstrap intervals, and the result table."""
