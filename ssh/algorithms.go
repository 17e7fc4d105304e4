package ssh

import (
	"slices"

	gossh "golang.org/x/crypto/ssh"
)

// The defaults: what is modern and what common clients of the last ten years speak. Everything else that
// x/crypto knows is legacy: served only if a configuration names it, with a warning. The key exchanges on NIST's
// curves are neither: no attack is known, but audits call them weak, and who lacks curve25519 has Diffie-Hellman.

func defaultKexAlgorithms() []string {
	return []string{
		gossh.KeyExchangeMLKEM768X25519,
		gossh.KeyExchangeCurve25519, // its @libssh.org name comes with it
		gossh.KeyExchangeDH14SHA256,
		gossh.KeyExchangeDH16SHA512,
		gossh.KeyExchangeDHGEXSHA256,
	}
}

func defaultCiphers() []string {
	return []string{
		gossh.CipherAES128GCM,
		gossh.CipherAES256GCM,
		gossh.CipherChaCha20Poly1305,
		gossh.CipherAES128CTR,
		gossh.CipherAES192CTR,
		gossh.CipherAES256CTR,
	}
}

func defaultMACs() []string {
	return []string{gossh.HMACSHA256ETM, gossh.HMACSHA512ETM, gossh.HMACSHA256, gossh.HMACSHA512}
}

func defaultHostKeyAlgorithms() []string {
	return []string{
		gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSASHA256,
		gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521,
		gossh.KeyAlgoED25519,
	}
}

func defaultPublicKeyAlgorithms() []string {
	return []string{
		gossh.KeyAlgoED25519, gossh.KeyAlgoSKED25519, gossh.KeyAlgoSKECDSA256,
		gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521,
		gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSASHA256,
	}
}

// curve25519LibSSH is the old name of curve25519-sha256. x/crypto adds it by itself.
const curve25519LibSSH = "curve25519-sha256@libssh.org"

// algorithmList is one configured list beside what may stand in it.
type algorithmList struct {
	key            string // in the sftpd section
	names          []string
	modern, legacy []string
}

func (l *algorithmList) known(name string) bool {
	return slices.Contains(l.modern, name) || slices.Contains(l.legacy, name)
}

func (l *algorithmList) all() []string { return slices.Concat(l.modern, l.legacy) }

// algorithmLists gives the five lists of the configuration.
func (c *Config) algorithmLists() []algorithmList {
	good, bad := gossh.SupportedAlgorithms(), gossh.InsecureAlgorithms()
	// hmac-sha1 is not broken as a MAC, but nothing modern needs it.
	macs := withoutNames(good.MACs, gossh.HMACSHA1)
	// DSA has only 1024-bit keys; no configuration brings it back (SSH-5).
	//lint:ignore SA1019 they are named to be left out
	never := []string{gossh.InsecureKeyAlgoDSA, gossh.InsecureCertAlgoDSAv01}
	return []algorithmList{
		{"host_key_algorithms", c.HostKeyAlgorithms, good.HostKeys, withoutNames(bad.HostKeys, never...)},
		{"kex_algorithms", c.KexAlgorithms, append(good.KeyExchanges, curve25519LibSSH), bad.KeyExchanges},
		{"ciphers", c.Ciphers, good.Ciphers, bad.Ciphers},
		{"macs", c.MACs, macs, append(bad.MACs, gossh.HMACSHA1)},
		{"public_key_algorithms", c.PublicKeyAlgorithms, good.PublicKeyAuths, withoutNames(bad.PublicKeyAuths, never...)},
	}
}

// LegacyAlgorithms lists what the configuration names that is out of date, as "key: name".
func (c *Config) LegacyAlgorithms() []string {
	var out []string
	for _, l := range c.algorithmLists() {
		for _, name := range l.names {
			if slices.Contains(l.legacy, name) {
				out = append(out, "sftpd."+l.key+": "+name)
			}
		}
	}
	return out
}

// orDefault gives names without doubles, or def if there are none.
func orDefault(names, def []string) []string {
	if len(names) == 0 {
		return def
	}
	var out []string
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// withoutNames gives a copy of names without the ones in drop.
func withoutNames(names []string, drop ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(drop, n) })
}
