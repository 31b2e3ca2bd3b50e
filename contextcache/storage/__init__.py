"""Where payloads are stored: what the adapters of every framework do with Redis, written once."""
