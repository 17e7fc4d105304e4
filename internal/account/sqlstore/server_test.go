package sqlstore

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// What stands in a setting stays there: no value of one key becomes another key (SQL-1).
func TestPostgresSettings(t *testing.T) {
	s := Server{Host: "db1,db2", Port: 5433, Database: `a'b sslmode=disable`, Username: `u\`, Password: `p' host='evil`, TLS: 1, SessionAttrs: "read-write"}
	cfg, err := pgx.ParseConfig(s.postgresDSN())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "db1" || cfg.Port != 5433 || cfg.Database != s.Database || cfg.User != s.Username || cfg.Password != s.Password || cfg.TLSConfig == nil {
		t.Errorf("got host %q port %d database %q user %q password %q TLS %v", cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password, cfg.TLSConfig != nil)
	}
	if len(cfg.Fallbacks) == 0 || cfg.Fallbacks[0].Host != "db2" || cfg.Fallbacks[0].TLSConfig == nil || cfg.ValidateConnect == nil {
		t.Errorf("the second host: %+v", cfg.Fallbacks)
	}
	for mode, plain := range map[int]bool{0: true, 1: false, 3: false} {
		s.TLS = mode
		if cfg, err = pgx.ParseConfig(s.postgresDSN()); err != nil || (cfg.TLSConfig == nil) != plain {
			t.Errorf("sslmode %d: TLS %v, %v", mode, cfg.TLSConfig != nil, err)
		}
	}
	s.TLS = 3
	if cfg, err = pgx.ParseConfig(s.postgresDSN()); err != nil || cfg.TLSConfig.ServerName != "db1" {
		t.Errorf("verify-full sends no name: %v", err)
	}
	s = Server{ConnectionString: "host=x port=none password=canary-secret"}
	if _, err := s.openPostgres(); err == nil || strings.Contains(err.Error(), "canary-secret") { // LOG-1
		t.Errorf("a bad connection string: %v", err)
	}
}

func TestServerSettingsNameTheirKey(t *testing.T) {
	good := Server{Host: "db"}
	for _, d := range []string{"postgresql", "mysql"} {
		if err := good.Validate(d); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
	for key, x := range map[string]struct {
		driver string
		s      Server
	}{
		"host:":                 {"mysql", Server{}},
		"host: a list":          {"mysql", Server{Host: "a,b"}},
		"port":                  {"postgresql", Server{Host: "a", Port: 70000}},
		"sslmode":               {"mysql", Server{Host: "a", TLS: 4}},
		"sslmode: must":         {"postgresql", Server{Host: "a", TLS: 6}},
		"client_cert":           {"postgresql", Server{Host: "a", ClientCert: "c"}},
		"target_session_attrs":  {"mysql", Server{Host: "a", SessionAttrs: "any"}},
		"target_session_attrs:": {"postgresql", Server{Host: "a", SessionAttrs: "best"}},
		"pool_size":             {"mysql", Server{Host: "a", PoolSize: -1}},
	} {
		if err := x.s.Validate(x.driver); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: got %v", key, err)
		}
	}
	for _, s := range []Server{{Host: "a", TLS: 1, RootCert: "/none"}, {ConnectionString: "user:canary-secret@"}} {
		if db, err := s.openMySQL(); err == nil || strings.Contains(err.Error(), "canary-secret") {
			t.Errorf("%+v: %v, %v", s, db, err)
		}
	}
}
