"""The one customer of the example."""
