// Package pprof is the telemetry listener: metrics in Prometheus text, health, and profiles of the running process.
//
// It is off until a port is configured, listens on loopback by default, and is meant for the machines that watch the
// server, not for its users. /healthz answers everybody who gets through to it; what it tells without a login is which
// check fails, not why. /metrics and /debug/pprof/ ask for a login where telemetry.auth_user_file names one. Profiles are
// there only with telemetry.enable_profiler.
//
// What a peer controls: the request's head, which is bounded in size and time; the seconds of a profile, which are
// bounded; a password, which is checked at a bounded cost (AUTH-10), alike for names that are there and that are not
// (AUTH-4). Bodies are not read. Every label of a metric has a closed set of values: no name, path or address of a peer
// makes a series.
package pprof
