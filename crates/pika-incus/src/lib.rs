//! A typed asynchronous client of the Incus REST API.
