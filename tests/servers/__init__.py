"""Real servers for tests: started as child processes, on free ports, gone with the tests."""
