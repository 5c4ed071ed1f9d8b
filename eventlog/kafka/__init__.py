"""The prediction log on Kafka: its topics, its reading and writing ends, its shipper."""
