"""What a frozen backbone knows of the classes: patch features, a linear head on them, a first look at its maps."""
