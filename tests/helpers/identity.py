"""What identifies a patient in the DICOM files that tests write, to search outputs for it."""

PATIENT_ID = "Secret-Patient"
IDENTITY = {
    "PatientName": "Secret^Name",
    "PatientBirthDate": "19010101",
    "AccessionNumber": "Secret-42",
}
SECRETS = (PATIENT_ID, *IDENTITY.values())
