"""The training step of the method, and a trainer that knows no method."""
