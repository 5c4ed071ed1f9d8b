"""Every contract between processes: .proto files and the code generated from them."""
