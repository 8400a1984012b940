"""How fast a run is, and its exports: latency, throughput, files to answers, memory."""
