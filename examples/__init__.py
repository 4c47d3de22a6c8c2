"""Programs around the product: engines to run against, and the demo."""
