#!/bin/bash
# The life of an administrator's records by curl alone, on a server of its own:
#
#	rest.sh GANTRY DRIVER [VARIABLE=value …]
#
# DRIVER is sqlite, bolt, memory or, with the variables that say where (GANTRY_DATA_PROVIDER__HOST=…), another one. What
# is printed holds no ids and times, so that it is the same for every driver.
set -u
gantry=$1 driver=$2
shift 2
dir=$(mktemp -d)
port() { for p in $(shuf -i 10000-32000 -n 50); do (exec 3<>/dev/tcp/127.0.0.1/$p) 2>/dev/null || { echo $p; return; }; done; }
http=$(port) ssh=$(port) ftp=$(port) dav=$(port)
start() {
	env "$@" GANTRY_DATA_PROVIDER__DRIVER=$driver GANTRY_HTTPD__BINDINGS__0__PORT=$http GANTRY_SFTPD__BINDINGS__0__PORT=$ssh \
		GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1 GANTRY_SFTPD__HOST_KEYS=id_ed25519 GANTRY_FTPD__BINDINGS__0__PORT=$ftp \
		GANTRY_FTPD__BINDINGS__0__ADDRESS=127.0.0.1 GANTRY_FTPD__PASSIVE_PORT_RANGE__START=0 GANTRY_COMMON__MAX_PER_HOST_CONNECTIONS=0 \
		GANTRY_DATA_PROVIDER__PASSWORD_HASHING__BCRYPT_OPTIONS__COST=4 $davenv \
		"$gantry" serve -c "$dir" >>"$dir/console" 2>&1 &
	pid=$!
	for _ in $(seq 300); do grep -qs 'is ready' "$dir/console" && return; kill -0 $pid 2>/dev/null || break; sleep 0.1; done
	echo "the server did not start:" >&2
	cat "$dir/console" >&2
	exit 1
}
davenv=
if "$gantry" version | grep -q +webdav; then davenv="GANTRY_WEBDAVD__BINDINGS__0__PORT=$dav GANTRY_WEBDAVD__BINDINGS__0__ADDRESS=127.0.0.1"; fi
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null; rm -rf "$dir"' EXIT
start "$@"
base=http://127.0.0.1:$http/api/v2
mkdir -p "$dir/home"

# same takes off what differs from run to run.
same() {
	sed -E -e "s#$dir#DIR#g" -e "s/:($http|$ssh|$ftp|$dav)\b/:PORT/g" \
		-e 's/"(id|created_at|updated_at|last_login|last_quota_update|last_password_change|last_use_at|connection_time|last_activity|current_time|start_time|first_upload|first_download)":[0-9]+/"\1":N/g' \
		-e 's/"id":"[A-Za-z0-9]{22}"/"id":"ID"/g' -e 's/"key":"[A-Za-z0-9.]+"/"key":"KEY"/g' -e 's/"access_token":"[^"]*"/"access_token":"T"/g' \
		-e 's/"expires_at":"[^"]*"/"expires_at":"T"/g' -e 's/"connection_id":"[^"]*"/"connection_id":"C"/g' -e 's/"remote_address":"[^"]*"/"remote_address":"A"/g' \
		-e 's/"client_version":"[^"]*"/"client_version":"V"/g' -e 's/\$2a\$[^"]*/HASH/g' -e 's#/apikeys/[A-Za-z0-9]{22}#/apikeys/ID#g' -e 's#/shares/[A-Za-z0-9]{22}#/shares/ID#g' \
		-e 's/"(driver)":"[^"]*"/"\1":"D"/g' -e 's#/connections/[A-Z]+_[0-9]+_[0-9]+#/connections/C#g' -e "s/$pid/PID/g"
}
auth=()
# call METHOD PATH [BODY]: prints the call, its status and its answer.
call() {
	local body=()
	[ $# -ge 3 ] && body=(--data-binary "$3")
	local out
	out=$(curl -sS -m 30 -X "$1" "${auth[@]}" "${body[@]}" -w '\n%{http_code}' "$base$2")
	printf '%s %s -> %s\n' "$1" "${2}" "${out##*$'\n'}" | same
	printf '%s\n' "${out%$'\n'*}" | grep -v '^$' | same
}
# raw METHOD PATH [BODY]: the answer alone, for later calls.
raw() {
	local body=()
	[ $# -ge 3 ] && body=(--data-binary "$3")
	curl -sS -m 30 -X "$1" "${auth[@]}" "${body[@]}" "$base$2"
}
member() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/"; }
token() { curl -sS -m 30 -u "$1:$2" "$base$3" | member access_token; }

echo "== the first administrator"
setup=$(grep -o '"token":"[a-z0-9]*"' "$dir/console" | cut -d'"' -f4)
[ "$driver" = memory ] && echo "(memory begins empty each time)" >&2
call POST /setup '{"token":"wrong","username":"root","password":"root-password"}'
call POST /setup "{\"token\":\"$setup\",\"username\":\"root\",\"password\":\"root-password\"}"
call POST /setup "{\"token\":\"$setup\",\"username\":\"other\",\"password\":\"root-password\"}"
call GET /token
auth=(-u root:wrong)
call GET /token
auth=(-u root:root-password)
call GET /token
auth=(-H "Authorization: Bearer $(token root root-password /token)")

echo "== records"
call POST /roles '{"name":"north","description":"of the north"}'
call POST /folders "{\"name\":\"shared\",\"mapped_path\":\"$dir/shared\"}"
call POST /groups '{"name":"staff","user_settings":{"quota_files":100,"permissions":{"/sub":["list","download"]}},"virtual_folders":[{"name":"shared","virtual_path":"/shared","quota_size":-1,"quota_files":-1}]}'
call POST /users "{\"username\":\"u\",\"password\":\"user-password\",\"status\":1,\"home_dir\":\"$dir/home\",\"permissions\":{\"/\":[\"*\"]},\"role\":\"north\",\"groups\":[{\"name\":\"staff\",\"type\":1}],\"filters\":{\"allow_api_key_auth\":true},\"quota_files\":50}"
call POST /users '{"username":"u","home_dir":"/x","permissions":{"/":["*"]}}'
call POST /users '{"username":"v","home_dir":"/x","permissions":{"/":["*"]},"role":"nowhere"}'
call POST /users '{"username":"v","home_dir":"/x","permissions":{"/":["*"]},"groups":[{"name":"none","type":1}]}'
call POST /users '{"username":"v","home_dir":"/x","permissions":{"/":["*"]},"virtual_folders":[{"name":"none","virtual_path":"/n"}]}'
call POST /users '{"username":"v","home_dir":"/x","permissions":{"/":["*"]},"quota_size":-5}'
call POST /users '{"username":7}'
call POST /users '{"username"'
call POST /admins '{"username":"helper","password":"helper-password","status":1,"permissions":["view_users","edit_users"],"role":"north"}'
call POST /eventactions '{"name":"backup","type":4}'
call POST /eventrules '{"name":"nightly","status":1,"trigger":3,"conditions":{"schedules":[{"hour":"0","day_of_week":"*","day_of_month":"*","month":"*"}]},"actions":[{"name":"backup","order":1}]}'
call POST /iplists/2 '{"ipornet":"192.0.2.0/24","mode":2}'
key=$(raw POST /apikeys '{"name":"of u","scope":2,"user":"u"}')
echo "$key" | same
key=$(echo "$key" | member key)
for path in /users /users/u /folders/shared /groups/staff /roles/north /admins /apikeys /eventactions /eventrules /iplists/2 '/users?limit=0' '/users?limit=-1' /users/none; do call GET "$path"; done
call PUT /folders/shared "{\"mapped_path\":\"$dir/shared\",\"description\":\"for all\"}"
call PATCH /users/u '{"description":"changed","email":"u@example.com"}'
call PATCH /groups/staff '{"description":"changed"}'
call PUT /roles/north '{"description":"changed"}'
call PUT /iplists/2/192.0.2.0%2F24 '{"mode":1,"description":"changed"}'
call GET /users/u
call GET /groups/staff
auth+=(-H 'If-Match: "0-0"')
call PATCH /users/u '{"description":"lost"}'
auth=("${auth[@]:0:2}")
call DELETE /groups/staff
call DELETE /roles/north
call DELETE /eventactions/backup

echo "== the user's four ways in"
echo hello >"$dir/file"
curl -sS -m 30 -k -u u:user-password -T "$dir/file" "sftp://127.0.0.1:$ssh/by-sftp" && echo "SFTP: stored"
curl -sS -m 30 -u u:user-password -T "$dir/file" "ftp://127.0.0.1:$ftp/by-ftp" && echo "FTP: stored"
if [ -n "$davenv" ]; then curl -sS -m 30 -f -u u:user-password -T "$dir/file" "http://127.0.0.1:$dav/by-dav" >/dev/null && echo "WebDAV: stored"; fi
admin=("${auth[@]}")
auth=(-u u:user-password)
call GET /user/token
auth=(-H "Authorization: Bearer $(token u user-password /user/token)")
call GET /user/profile
auth=(-H "X-SFTPGO-API-KEY: $key")
raw GET /user/dirs | grep -o '"name":"[^"]*"' | sort
auth=(-H "Authorization: Bearer $(token u user-password /user/token)")
share=$(raw POST /user/shares '{"name":"one","scope":1,"paths":["/by-sftp"],"max_tokens":1}' && curl -sS -m 30 "${auth[@]}" "$base/user/shares" | member id)
call GET /user/shares
call GET /user/logout
call GET /user/dirs
auth=("${admin[@]}")

echo "== quota, connections"
call POST /quotas/users/u/scan
for _ in $(seq 100); do [ "$(raw GET /quotas/users/scans)" = "[]" ] && break; sleep 0.1; done
for _ in $(seq 100); do raw GET /users/u | grep -q last_login && break; sleep 0.1; done # it is written in the background
call GET /users/u
call PUT /quotas/users/u/usage '{"used_quota_size":5,"used_quota_files":1}'
call PUT '/quotas/users/u/usage?mode=add' '{"used_quota_size":2,"used_quota_files":1}'
call GET /users/u
# A download that nobody reads stays open.
head -c 60000000 /dev/zero >"$dir/home/big"
curl -sS -m 60 --limit-rate 1k -u u:user-password "ftp://127.0.0.1:$ftp/big" -o /dev/null 2>/dev/null &
slow=$!
for _ in $(seq 100); do raw GET /connections | grep -q active_transfers && break; sleep 0.1; done
raw GET /connections | same | sed -E 's/"size":[0-9]+/"size":N/'
call DELETE "/connections/$(raw GET /connections | member connection_id)"
for _ in $(seq 100); do [ "$(raw GET /connections)" = "[]" ] && break; sleep 0.1; done
kill -0 $slow 2>/dev/null && [ "$(raw GET /connections)" = "[]" ] && echo "the transfer was cut"
kill $slow 2>/dev/null # it has bytes to read still
wait $slow 2>/dev/null
call GET /connections
call DELETE /connections/none
rm "$dir/home/big"

echo "== an administrator of a role"
auth=(-H "Authorization: Bearer $(token helper helper-password /token)")
call GET /users
call POST /users '{"username":"x"}'
call GET /dumpdata?output-data=1
call PATCH /users/u '{"description":"by helper"}'
auth=("${admin[@]}")
call PATCH /users/u '{"role":null}'
auth=(-H "Authorization: Bearer $(token helper helper-password /token)")
call GET /users/u
auth=("${admin[@]}")

echo "== dump, wipe, load: the same answers"
# Counters of a user that was not there begin at 0 (rest-api.md 5.1).
shown() {
	for path in /users/u /folders/shared /groups/staff /roles/north /admins/helper /apikeys /eventactions /eventrules /iplists/2; do raw GET $path | same; echo; done |
		grep -v '^$' | sed -E 's/"(used_quota_size|used_quota_files|last_quota_update|last_login|first_upload|first_download)":[0-9N]+,//g'
}
before=$(shown)
raw GET '/dumpdata?output-data=1' >"$dir/dump.json"
for path in /eventrules/nightly /eventactions/backup /users/u /groups/staff /folders/shared /admins/helper /roles/north /iplists/2/192.0.2.0%2F24; do call DELETE $path; done
call GET /users
call POST /loaddata '{"users":[{"username":"good","home_dir":"/x","permissions":{"/":["*"]}},{"username":"bad/name"}]}'
call GET /users
curl -sS -m 30 "${auth[@]}" --data-binary "@$dir/dump.json" "$base/loaddata"
after=$(shown)
[ "$before" = "$after" ] && echo "all answers are the same" || { echo "answers differ"; diff <(echo "$before") <(echo "$after"); }
auth=(-u u:user-password)
call GET /user/token
auth=("${admin[@]}")

echo "== the end"
call DELETE /users/u
call DELETE /users/u
call GET /apikeys
call GET /logout
call GET /users
auth=()
call GET /users
