"""A service for one machine: photos by HTTP, boxes as JSON, batches across requests."""
