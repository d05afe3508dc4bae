"""`bulkembed verify`: is a dataset what its commit records and its pinned settings say?"""
