package main

// wish is what a signal asks for.
type wish int

const (
	stop wish = iota
	reload
	rotate
)
