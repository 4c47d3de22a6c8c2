"""What the program shows of itself: metrics (one table), logs, and the only place that starts tasks."""
