package vfstest

var uploadCases []testCase
