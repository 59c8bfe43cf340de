"""What other systems read: a trained model as a MONAI Bundle."""
