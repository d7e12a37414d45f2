"""The networks: plain modules of tensors, which know no schedules, files or words beyond their own."""
