package rest

import "crypto/subtle"

// adminRoutes are the rows of administrators' calls, and of those that nobody must log in for.
func adminRoutes() []Route {
	var out []Route
	for _, part := range [][]Route{serviceRoutes(), recordRoutes(), workRoutes(), adminSelfRoutes(), retentionRoutes(), adminAliases(), openapiRoutes()} {
		out = append(out, part...)
	}
	return out
}

// userRoutes are the rows of users' calls on what is their own.
func userRoutes() []Route {
	return append(append([]Route{
		{Method: get, Path: "/user/token", Auth: BasicAuth, Run: userToken, ID: "getUserToken", Of: "tokens"},
		{Method: get, Path: "/user/logout", Auth: UserToken, Run: logout, ID: "userLogout", Of: "tokens"},
		{Method: post, Path: "/user/logout", Auth: UserToken, Run: logout, ID: "postUserLogout", Of: "tokens", Body: 256 << 10},
	}, userSelfRoutes()...), append(fileRoutes(), userAliases()...)...)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
