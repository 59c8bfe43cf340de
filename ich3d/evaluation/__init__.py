"""What scores are worth: baselines, bootstrap intervals, the result table."""
