"""What a terminal shows and sends: progress bars and Ctrl-C."""
