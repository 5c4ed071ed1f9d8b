"""What a request for a training says and whom it may be sent to; pure."""
