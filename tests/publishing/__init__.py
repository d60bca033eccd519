"""What docs/publishing.md tells application servers to do, done."""
