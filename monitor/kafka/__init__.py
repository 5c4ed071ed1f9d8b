"""The monitor on Kafka: a group of monitors, each the owner of some partitions."""
