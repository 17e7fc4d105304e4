package vfstest

var raceCases []testCase
