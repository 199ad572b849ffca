"""Processes that the gateway's benchmark measures beside ours."""
