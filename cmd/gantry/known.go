package main

import (
	"strings"

	"github.com/gantryhq/gantry/internal/config"
)

// laterKeys are keys of features that are not built yet, one section a line. A file that names them loads,
// with a warning. Whoever builds a feature moves its keys from here into the structure.
const laterKeys = `
common: resume_max_size metadata.* event_manager.*
acme: domains email key_type certs_path ca_endpoint renew_days http01_challenge.port http01_challenge.proxy_header http01_challenge.webroot tls_alpn01_challenge.port
httpd: bindings[].enable_web_admin bindings[].enable_web_client bindings[].enabled_login_methods bindings[].hide_login_url bindings[].languages bindings[].base_url bindings[].oidc.* bindings[].branding.* templates_path static_files_path openapi_path cookie_lifetime share_cookie_lifetime hide_support_link
smtp: host port from user password auth_type encryption domain templates_path debug oauth2.provider oauth2.tenant oauth2.client_id oauth2.client_secret oauth2.refresh_token
plugins[]: *
`

// goneKeys are keys that SFTPGo read once and that have no effect here.
var goneKeys = []config.Known{
	{Key: "common.temp_path", Note: "an upload's temporary file stands beside its target"},
	{Key: "common.data_retention_hook"},
	{Key: "common.defender.safelist_file", Note: "use the IP lists"},
	{Key: "common.defender.blocklist_file", Note: "use the IP lists"},
	{Key: "common.defender.safelist", Note: "use the IP lists"},
	{Key: "common.defender.blocklist", Note: "use the IP lists"},
	{Key: "common.whitelist_file", Note: "use the IP lists and allowlist_status"},
	{Key: "sftpd.bind_port", Note: "use sftpd.bindings"},
	{Key: "sftpd.bind_address", Note: "use sftpd.bindings"},
	{Key: "ftpd.bind_port", Note: "use ftpd.bindings"},
	{Key: "ftpd.bind_address", Note: "use ftpd.bindings"},
	{Key: "webdavd.bind_port", Note: "use webdavd.bindings"},
	{Key: "webdavd.bind_address", Note: "use webdavd.bindings"},
	{Key: "httpd.bind_port", Note: "use httpd.bindings"},
	{Key: "httpd.bind_address", Note: "use httpd.bindings"},
	{Key: "httpd.backups_path", Note: "use data_provider.backups_path"},
	{Key: "httpd.bindings[].web_client_integrations.*"},
	{Key: "data_provider.credentials_path", Note: "credentials are stored in the database"},
	{Key: "data_provider.prefer_database_credentials", Note: "credentials are always stored in the database"},
	{Key: "data_provider.skip_natural_keys_validation", Note: "use data_provider.naming_rules"},
}

// knownKeys is both tables in the form that config takes.
func knownKeys() []config.Known {
	var out []config.Known
	for _, g := range goneKeys { // first: a gone key may stand below a later one
		g.State = config.Gone
		out = append(out, g)
	}
	for _, line := range strings.Split(strings.TrimSpace(laterKeys), "\n") {
		section, keys, _ := strings.Cut(line, ":")
		for _, k := range strings.Fields(keys) {
			out = append(out, config.Known{Key: section + "." + k})
		}
	}
	return out
}
