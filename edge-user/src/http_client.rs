//! http_client.
