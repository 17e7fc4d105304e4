package vfstest

var renameCases []testCase
