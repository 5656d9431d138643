"""What `replicator demo` runs: real servers, a workload and the story around them."""
