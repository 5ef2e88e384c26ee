"""What a study may use and has used: limits, cost, throughput, timing, utilisation."""
