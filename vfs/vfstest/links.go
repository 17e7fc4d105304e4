package vfstest

var linkCases []testCase
