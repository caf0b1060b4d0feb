"""Results in the formats that others take."""
