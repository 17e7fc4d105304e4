// Package program runs git-upload-pack, git-upload-archive, git-receive-pack and rsync of the system for SSH
// clients. They are off by default, and serve local storage only.
//
// What a peer controls: the words of the command line and the bytes of the program's standard input. The words
// are parsed against a list of what is known and the program's arguments are made anew of what was understood;
// no shell is used (HOOK-2). The path is the user's virtual one; it is opened beneath the user's root, and the
// program begins in that directory: it is given "." or "./name", never a path of the peer.
//
// The programs understand far more than their arguments: a repository's configuration names commands, links
// lead elsewhere. So the kernel confines them (Landlock, Linux 5.19 and later): they may touch the one directory,
// read the system's libraries, and execute nothing but themselves. They cannot make devices, and where the
// kernel knows how, not connect anywhere. They never run as root: a server that does needs accounts with a uid.
// Where any of this cannot be had the command is refused. What Landlock does not know are changes of the mode,
// owner and times of files that a link in the tree leads to; those are held by the user id alone.
package program
