"""What SREs deploy beside driftgate: Prometheus and Grafana configuration."""
