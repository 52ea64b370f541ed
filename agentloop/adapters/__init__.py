"""What fulfils the ports: files, the network, the clock, the tools."""
