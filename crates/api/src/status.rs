//! metav1.Status: the errors that clients recognise.
