"""Seeds: class activation maps from a trained model, and their files."""
