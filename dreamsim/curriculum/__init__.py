"""The curriculum: what a task is worth, which task comes next, and tasks that nobody has made before."""
