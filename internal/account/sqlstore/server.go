package sqlstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gantryhq/gantry/internal/account"
)

// Server says how a database server is reached.
type Server struct {
	Host               string // a name, an address or the directory (PostgreSQL) or file (MySQL) of a socket; PostgreSQL takes a list with commas
	Port               int    // 0 is the driver's own
	Database           string
	Username, Password string
	TLS                int    // PostgreSQL: 0 disable, 1 require, 2 verify-ca, 3 verify-full, 4 prefer, 5 allow. MySQL: 0 off, 1 on, 2 skip-verify, 3 preferred
	RootCert           string // files
	ClientCert         string
	ClientKey          string
	DisableSNI         bool
	SessionAttrs       string // PostgreSQL: any, read-write, read-only, primary, standby, prefer-standby
	ConnectionString   string // in the driver's own form; replaces all of the above
	PoolSize           int    // connections at most; 0 is defaultPool
}

const (
	defaultPool = 20
	dialWait    = 10 * time.Second
)

// tlsModes are PostgreSQL's names of Server.TLS.
func tlsModes() []string {
	return []string{"disable", "require", "verify-ca", "verify-full", "prefer", "allow"}
}

// Validate says what is wrong with a server's settings, without asking it. The error names the key.
func (s *Server) Validate(driver string) error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, a...)))
	}
	if s.PoolSize < 0 || s.PoolSize > 10_000 {
		bad("pool_size", "must be 0 (%d connections) to 10000, it is %d", defaultPool, s.PoolSize)
	}
	if (s.ClientCert == "") != (s.ClientKey == "") {
		bad("client_cert", "client_cert and client_key must be given together")
	}
	modes := len(tlsModes())
	if driver == "mysql" {
		modes = 4
		if s.SessionAttrs != "" {
			bad("target_session_attrs", "is for postgresql and cockroachdb only")
		}
		if strings.Contains(s.Host, ",") {
			bad("host", "a list of hosts is for postgresql and cockroachdb only")
		}
	}
	if s.TLS < 0 || s.TLS >= modes {
		bad("sslmode", "must be 0 to %d, it is %d", modes-1, s.TLS)
	}
	if attrs := []string{"", "any", "read-write", "read-only", "primary", "standby", "prefer-standby"}; !slices.Contains(attrs, s.SessionAttrs) {
		bad("target_session_attrs", "must be one of %s, it is %q", strings.Join(attrs[1:], ", "), s.SessionAttrs)
	}
	if s.ConnectionString == "" {
		if s.Host == "" {
			bad("host", "%s needs the host of the server", driver)
		}
		if s.Port < 0 || s.Port > 65535 {
			bad("port", "must be 0 to 65535, it is %d", s.Port)
		}
	}
	return errors.Join(errs...)
}

// open makes a pool of connections to a server. It does not connect.
func (s *Server) open(d *dialect) (*sql.DB, error) {
	var db *sql.DB
	var err error
	if d.name == "mysql" {
		db, err = s.openMySQL()
	} else {
		db, err = s.openPostgres()
	}
	if err != nil {
		return nil, err
	}
	n := s.PoolSize
	if n == 0 {
		n = defaultPool
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour)
	return db, nil
}

func (s *Server) openPostgres() (*sql.DB, error) {
	dsn := s.ConnectionString
	if dsn == "" {
		dsn = s.postgresDSN()
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New(hidePassword(err.Error(), s.Password)) // LOG-1
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > dialWait {
		cfg.ConnectTimeout = dialWait
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "gantry"
	}
	return stdlib.OpenDB(*cfg), nil
}

// postgresDSN is the settings as libpq's keywords.
func (s *Server) postgresDSN() string {
	var b strings.Builder
	put := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s='%s' ", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	put("host", s.Host)
	if s.Port != 0 {
		put("port", strconv.Itoa(s.Port)) // one for all hosts
	}
	put("dbname", s.Database)
	put("user", s.Username)
	put("password", s.Password)
	put("sslmode", tlsModes()[s.TLS])
	put("sslrootcert", s.RootCert)
	put("sslcert", s.ClientCert)
	put("sslkey", s.ClientKey)
	if s.DisableSNI {
		put("sslsni", "0")
	}
	put("target_session_attrs", s.SessionAttrs)
	return b.String()
}

func hidePassword(text, password string) string {
	if password == "" {
		return text
	}
	return strings.ReplaceAll(text, password, "xxxxx")
}

func (s *Server) openMySQL() (*sql.DB, error) {
	cfg := mysql.NewConfig()
	if s.ConnectionString != "" {
		var err error
		if cfg, err = mysql.ParseDSN(s.ConnectionString); err != nil {
			return nil, errors.New("connection_string: it is not in the form user:password@tcp(host:port)/database?option=value")
		}
	} else {
		cfg.User, cfg.Passwd, cfg.DBName = s.Username, s.Password, s.Database
		if filepath.IsAbs(s.Host) {
			cfg.Net, cfg.Addr = "unix", s.Host
		} else {
			port := s.Port
			if port == 0 {
				port = 3306
			}
			cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(s.Host, strconv.Itoa(port))
		}
		var err error
		if cfg.TLS, err = s.mysqlTLS(); err != nil {
			return nil, err
		}
		cfg.AllowFallbackToPlaintext = s.TLS == 3
	}
	cfg.ClientFoundRows = true // an UPDATE tells whether its row is there, changed or not
	cfg.MultiStatements = false
	if cfg.Timeout == 0 || cfg.Timeout > dialWait {
		cfg.Timeout = dialWait
	}
	cfg.Logger = &mysql.NopLogger{} // what it would tell comes as an error too
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(preparing{connector}), nil
}

// mysqlTLS is the settings as Go's; nil is plain.
func (s *Server) mysqlTLS() (*tls.Config, error) {
	if s.TLS == 0 {
		return nil, nil
	}
	c := &tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.TLS >= 2}
	if filepath.IsAbs(s.Host) {
		c.ServerName = "localhost"
	}
	if s.RootCert != "" {
		pem, err := os.ReadFile(s.RootCert)
		if err != nil {
			return nil, fmt.Errorf("root_cert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("root_cert: there is no certificate in %s", s.RootCert)
		}
	}
	if s.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(s.ClientCert, s.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client_cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if s.DisableSNI && s.TLS == 1 {
		// Without a name Go neither sends nor checks one: check it here.
		name := c.ServerName
		c.ServerName, c.InsecureSkipVerify = "", true
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			opts := x509.VerifyOptions{Roots: c.RootCAs, DNSName: name, Intermediates: x509.NewCertPool()}
			for _, x := range cs.PeerCertificates[1:] {
				opts.Intermediates.AddCert(x)
			}
			_, err := cs.PeerCertificates[0].Verify(opts)
			return err
		}
	} else if s.DisableSNI {
		c.ServerName = ""
	}
	return c, nil
}

// checkServerOwner refuses a database that has tables but not ours. With a prefix only tables under it count: others
// may share the database then.
func (e *engine) checkServerOwner(ctx context.Context) error {
	var tables, ours int
	err := e.r.QueryRowContext(ctx, e.q(`SELECT count(*), coalesce(sum(CASE WHEN table_name = ? THEN 1 ELSE 0 END), 0) FROM information_schema.tables
		WHERE table_schema = {schema} AND table_type = 'BASE TABLE' AND substr(table_name, 1, ?) = ?`),
		e.cfg.Prefix+"gantry_schema", len(e.cfg.Prefix), e.cfg.Prefix).Scan(&tables, &ours)
	if err != nil {
		return fmt.Errorf("look at the tables: %w", err)
	}
	if tables > 0 && ours == 0 {
		hint := "name another database in data_provider.name, or set data_provider.sql_tables_prefix to share this one"
		if e.cfg.Prefix != "" {
			hint = "name another database in data_provider.name, or another data_provider.sql_tables_prefix"
		}
		return fmt.Errorf("%w; %s, and import the accounts from a dump with `gantry load FILE` or `gantry serve --loaddata-from FILE`", account.ErrForeignDB, hint)
	}
	return nil
}
