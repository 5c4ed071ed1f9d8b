"""Grafana boards, built from code so that every query names a metric that exists."""
