"""What operators put around Pinghub: Prometheus with its rules, a dashboard, and their own eyes."""
