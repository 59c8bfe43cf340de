"""The report of one patient's study."""
