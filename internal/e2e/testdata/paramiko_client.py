"""The steps of TestParamiko: port, user, password, key file, local file."""
import errno
import hashlib
import os
import sys

import paramiko

port, user, password, key, local = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5]


def connect(**how):
    c = paramiko.SSHClient()
    c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    c.connect("127.0.0.1", port, user, allow_agent=False, look_for_keys=False, timeout=60, **how)
    return c


def digest(data):
    return hashlib.sha256(data).hexdigest()


with open(local, "rb") as f:
    whole = f.read()
half = len(whole) // 3

client = connect(password=password)
sftp = client.open_sftp()
sftp.get_channel().settimeout(60)
assert sftp.normalize(".") == "/", sftp.normalize(".")
sftp.mkdir("d")
attr = sftp.put(local, "d/file")
assert attr.st_size == len(whole)
sftp.get("d/file", local + ".back")
with open(local + ".back", "rb") as f:
    assert digest(f.read()) == digest(whole), "get"

sftp.chmod("d/file", 0o600)
sftp.utime("d/file", (1000000000, 1000000001))
st = sftp.stat("d/file")
assert (st.st_size, st.st_mtime, st.st_mode & 0o777) == (len(whole), 1000000001, 0o600), st
sftp.rename("d/file", "d/moved")
try:
    sftp.stat("d/file")
    raise SystemExit("the old name is there")
except IOError as e:
    assert e.errno == errno.ENOENT, e
sftp.symlink("moved", "d/link")
assert sftp.readlink("d/link") == "moved"
assert sftp.lstat("d/link").st_size != sftp.stat("d/link").st_size

# An upload that goes on where an earlier one stopped, by offset and by append.
for name, mode in (("d/resumed", "r+b"), ("d/appended", "ab")):
    with sftp.open(name, "wb") as f:
        f.write(whole[:half])
    have = sftp.stat(name).st_size
    assert have == half, have
    with sftp.open(name, mode) as f:
        f.set_pipelined(True)
        if mode == "r+b":
            f.seek(have)
        f.write(whole[have:])

# A download that goes on.
with sftp.open("d/moved", "rb") as f:
    f.seek(half)
    f.prefetch()
    assert digest(f.read()) == digest(whole[half:]), "resumed download"
    parts = list(f.readv([(0, 1000), (500000, 70000), (len(whole) - 10, 10)]))
    assert parts == [whole[:1000], whole[500000:570000], whole[-10:]], "readv"

names = sorted(a.filename for a in sftp.listdir_attr("d"))
assert names == ["appended", "link", "moved", "resumed"], names
sftp.remove("d/link")
sftp.mkdir("d/empty")
sftp.rmdir("d/empty")
sftp.posix_rename("d/resumed", "d/resumed2")
sftp.posix_rename("d/resumed2", "d/resumed")
client.close()

client = connect(key_filename=key)
with client.open_sftp() as sftp:
    assert sorted(sftp.listdir("/d")) == ["appended", "moved", "resumed"]
client.close()
os.remove(local + ".back")
print("all steps done")
