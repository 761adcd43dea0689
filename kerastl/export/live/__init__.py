"""Ask a running TF Serving, by gRPC and by REST, whether it answers as the export does."""
