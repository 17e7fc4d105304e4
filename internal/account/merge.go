package account

import (
	"fmt"
	"slices"
	"strings"
)

// Merge gives the user as it is at login: with what its groups add (data-model.md 7). The primary group
// comes first, then the secondary ones by name; membership groups add nothing. u is not changed.
func Merge(u User, groups []Group) (User, error) {
	byName := make(map[string]*Group, len(groups))
	for i := range groups {
		byName[groups[i].Name] = &groups[i]
	}
	maps := slices.Clone(u.Groups)
	slices.SortFunc(maps, func(a, b GroupMapping) int {
		if a.Type != b.Type {
			return a.Type - b.Type
		}
		return strings.Compare(a.Name, b.Name)
	})
	u.Permissions = clonePerms(u.Permissions)
	u.VirtualFolders = slices.Clone(u.VirtualFolders)
	u.Filters.FilePatterns = slices.Clone(u.Filters.FilePatterns)
	for _, m := range maps {
		if m.Type == GroupMembership {
			continue
		}
		g, ok := byName[m.Name]
		if !ok {
			return User{}, fmt.Errorf("group %q of user %q: %w", m.Name, u.Username, ErrNotFound)
		}
		if m.Type == GroupPrimary {
			mergePrimary(&u, g)
		}
		mergeAny(&u, g, m.Type == GroupPrimary)
	}
	// All mappings of one folder carry the limits of the first.
	first := map[string]*VirtualFolder{}
	for i := range u.VirtualFolders {
		v := &u.VirtualFolders[i]
		if f, ok := first[v.Name]; ok {
			v.QuotaSize, v.QuotaFiles = f.QuotaSize, f.QuotaFiles
		} else {
			first[v.Name] = v
		}
	}
	return u, nil
}

func clonePerms(in map[string][]string) map[string][]string {
	out := make(map[string][]string, len(in))
	for k, v := range in {
		out[k] = slices.Clone(v)
	}
	return out
}

func fill[T comparable](dst *T, v T) {
	var zero T
	if *dst == zero {
		*dst = v
	}
}

// place puts the user's name and role, each one validated component (PATH-6), into a group's text.
func place(u *User, text string) string {
	return strings.NewReplacer("%username%", u.Username, "%role%", u.Role).Replace(text)
}

func mergePrimary(u *User, g *Group) {
	s := &g.UserSettings
	if s.HomeDir != "" {
		u.HomeDir = place(u, s.HomeDir)
	}
	if s.Filesystem.Provider != LocalProvider {
		u.Filesystem = s.Filesystem
		f := &u.Filesystem
		f.S3Config.KeyPrefix = place(u, f.S3Config.KeyPrefix)
		f.GCSConfig.KeyPrefix = place(u, f.GCSConfig.KeyPrefix)
		f.AzBlobConfig.KeyPrefix = place(u, f.AzBlobConfig.KeyPrefix)
		f.SFTPConfig.Username, f.SFTPConfig.Prefix = place(u, f.SFTPConfig.Username), place(u, f.SFTPConfig.Prefix)
		f.HTTPConfig.Username = place(u, f.HTTPConfig.Username)
	} else {
		fill(&u.Filesystem.OSConfig.ReadBufferSize, s.Filesystem.OSConfig.ReadBufferSize)
		fill(&u.Filesystem.OSConfig.WriteBufferSize, s.Filesystem.OSConfig.WriteBufferSize)
	}
	fill(&u.MaxSessions, s.MaxSessions)
	fill(&u.QuotaSize, s.QuotaSize)
	fill(&u.QuotaFiles, s.QuotaFiles)
	fill(&u.UploadBandwidth, s.UploadBandwidth)
	fill(&u.DownloadBandwidth, s.DownloadBandwidth)
	if u.UploadDataTransfer == 0 && u.DownloadDataTransfer == 0 && u.TotalDataTransfer == 0 {
		u.UploadDataTransfer, u.DownloadDataTransfer, u.TotalDataTransfer = s.UploadDataTransfer, s.DownloadDataTransfer, s.TotalDataTransfer
	}
	if u.ExpirationDate == 0 && s.ExpiresIn > 0 {
		u.ExpirationDate = u.CreatedAt + int64(s.ExpiresIn)*24*60*60*1000
	}
	f, o := &u.Filters.BaseFilters, &s.Filters
	fill(&f.MaxUploadFileSize, o.MaxUploadFileSize)
	fill(&f.ExternalAuthCacheTime, o.ExternalAuthCacheTime)
	fill(&f.FTPSecurity, o.FTPSecurity)
	fill(&f.StartDirectory, place(u, o.StartDirectory))
	fill(&f.DefaultSharesExpiration, o.DefaultSharesExpiration)
	fill(&f.MaxSharesExpiration, o.MaxSharesExpiration)
	fill(&f.PasswordExpiration, o.PasswordExpiration)
	fill(&f.PasswordStrength, o.PasswordStrength)
	if f.TLSUsername == "" || f.TLSUsername == "None" {
		f.TLSUsername = o.TLSUsername
	}
	f.Hooks.ExternalAuthDisabled = f.Hooks.ExternalAuthDisabled || o.Hooks.ExternalAuthDisabled
	f.Hooks.PreLoginDisabled = f.Hooks.PreLoginDisabled || o.Hooks.PreLoginDisabled
	f.Hooks.CheckPasswordDisabled = f.Hooks.CheckPasswordDisabled || o.Hooks.CheckPasswordDisabled
	f.DisableFsChecks = f.DisableFsChecks || o.DisableFsChecks
	f.AllowAPIKeyAuth = f.AllowAPIKeyAuth || o.AllowAPIKeyAuth
	f.IsAnonymous = f.IsAnonymous || o.IsAnonymous
}

func mergeAny(u *User, g *Group, primary bool) {
	s := &g.UserSettings
	for dir, list := range s.Permissions {
		dir = place(u, dir)
		if dir == "/" {
			if primary {
				u.Permissions["/"] = slices.Clone(list)
			}
			continue
		}
		if _, ok := u.Permissions[dir]; !ok {
			u.Permissions[dir] = slices.Clone(list)
		}
	}
	for _, v := range g.VirtualFolders {
		v.VirtualPath = place(u, v.VirtualPath)
		v.MappedPath = place(u, v.MappedPath)
		if v.VirtualPath == "/" && !primary || slices.ContainsFunc(u.VirtualFolders, func(o VirtualFolder) bool { return o.VirtualPath == v.VirtualPath }) {
			continue
		}
		u.VirtualFolders = append(u.VirtualFolders, v)
	}
	f, o := &u.Filters.BaseFilters, &s.Filters
	for _, p := range o.FilePatterns {
		p.Path = place(u, p.Path)
		if p.Path == "/" && !primary || slices.ContainsFunc(f.FilePatterns, func(q PatternsFilter) bool { return q.Path == p.Path }) {
			continue
		}
		f.FilePatterns = append(f.FilePatterns, p)
	}
	f.AllowedIP = slices.Concat(f.AllowedIP, o.AllowedIP)
	f.DeniedIP = slices.Concat(f.DeniedIP, o.DeniedIP)
	f.DeniedLoginMethods = slices.Concat(f.DeniedLoginMethods, o.DeniedLoginMethods)
	f.DeniedProtocols = slices.Concat(f.DeniedProtocols, o.DeniedProtocols)
	f.WebClient = slices.Concat(f.WebClient, o.WebClient)
	f.TwoFactorProtocols = slices.Concat(f.TwoFactorProtocols, o.TwoFactorProtocols)
	f.BandwidthLimits = slices.Concat(f.BandwidthLimits, o.BandwidthLimits)
	f.AccessTime = slices.Concat(f.AccessTime, o.AccessTime)
}
