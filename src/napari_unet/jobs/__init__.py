"""Running one piece of core work in a thread: cancel, events, errors in plain words."""
