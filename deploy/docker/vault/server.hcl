# One Vault node that keeps its data in a volume. TLS ends nowhere here: the listener is reachable on the compose network
# `vault` only, where secret-svc and the setup job are the other members. Elsewhere give it a certificate.
storage "raft" {
  path    = "/vault/file"
  node_id = "one"
}
listener "tcp" {
  address     = "0.0.0.0:8200"
  tls_disable = true
}
api_addr      = "http://vault:8200"
cluster_addr  = "http://vault:8201"
disable_mlock = true
ui            = false
